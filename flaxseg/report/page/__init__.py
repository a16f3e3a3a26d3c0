"""The report of an evaluation as one HTML page: numbers become sections, and sections the page."""
