"""What is known when all chips are answered: scores, places, and the page to look at them."""
