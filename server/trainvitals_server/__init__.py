"""The server: takes in what trainers tell, stores and judges it, and shows it to browsers. It never imports torch."""

__version__ = "0.1.0"
