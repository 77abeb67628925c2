"""Files in and out: one module a format or a way of writing; no science here."""
