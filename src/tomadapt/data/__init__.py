"""The nouns: subtomograms with and without labels, a tomogram, what tells cubes apart."""
