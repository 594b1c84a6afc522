"""A run as a whole: the states it goes through, its pulse, and the summary the page shows."""
