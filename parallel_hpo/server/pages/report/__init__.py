"""A sweep as one HTML file that needs no server: the pages' own scripts and styles, and its data."""
