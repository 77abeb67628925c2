"""What opens particles, labelled sets and tomograms, whatever program wrote them."""
