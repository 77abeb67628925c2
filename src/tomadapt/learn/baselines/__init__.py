"""What the paper compares 3D-ADA with: importance estimation and structural correspondence."""
