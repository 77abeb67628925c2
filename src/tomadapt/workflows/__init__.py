"""Whole ways: a run from structures to a report, and the models it leaves."""
