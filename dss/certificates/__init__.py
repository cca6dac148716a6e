"""What is known of the loss along a whole path: by samples, or proved."""
