"""Telling a study: statistics, tables, figures and one page."""
