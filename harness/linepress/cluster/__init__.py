"""Ray: joining or starting it, fanning cases out over it, what runs in its tasks."""
