"""The store room: keeps the accounts in Valkey or Redis. The name redis stops here."""
