"""Requests to trainers: their states, how they are handed out, and what trainers report back."""
