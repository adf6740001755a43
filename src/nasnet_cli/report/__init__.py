"""The report: results as one self-contained HTML page."""
