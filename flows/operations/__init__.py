"""What an operator needs: alerts, and who is notified."""
