"""What a security reviewer asks for: each test is a promise of docs/threat-model.md."""
