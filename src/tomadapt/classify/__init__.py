"""From a tomogram to labelled particles, in one resumable run.

``options`` says what is asked for, ``matched_source`` makes (or finds again) a source model for the
stated acquisition, ``run`` does all of it, ``results`` writes what users open.
"""
