"""The auditor that never ends: walks everything, and heals what drifts."""
