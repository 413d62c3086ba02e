"""Who does the tasks of a batch: this process, several processes, or a cluster."""
