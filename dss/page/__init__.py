"""What people look at: numbers for pictures, figures, and self-contained pages."""
