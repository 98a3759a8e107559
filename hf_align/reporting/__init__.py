"""What a run leaves behind for people: the run record, metrics, the HTML report and the model card."""
