"""From predictions and records to figures and one self-contained HTML file."""
