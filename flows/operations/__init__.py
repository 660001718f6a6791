"""What an operator needs: alerts, and who is told of them."""
