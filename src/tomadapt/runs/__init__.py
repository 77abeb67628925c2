"""What every run needs: atomic files, folders that are its own, stages, progress, versions."""
