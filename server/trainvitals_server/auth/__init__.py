"""Who may do what: tokens, browser sessions, and the guard every request passes. What is not granted is denied."""
