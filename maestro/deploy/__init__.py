"""What is done with a trained network's weights (Sec. 3.4, 5.5; App. E)."""
