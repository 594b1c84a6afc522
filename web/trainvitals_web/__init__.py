"""The page: HTML, style sheets and ES modules, served as they lie by `trainvitals_server`. No Python lives here."""
