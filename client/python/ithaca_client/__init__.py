"""A thin client for Ithaca: submit a job, watch it, list jobs.

    import ithaca_client

    with ithaca_client.Client("127.0.0.1:7070") as client:
        job = client.submit({
            "name": "book",
            "model": "/models/SmolLM2-135M",
            "data": {"train": ["/data/book.txt"], "sequence_length": 4096},
            "training": {"steps": 20},
        })
        for job in client.watch(job.id):
            print(job.progress.step, job.progress.loss)

Jobs are messages of the contract (ithaca/v1/job.proto); what a method needs may also be given as a dictionary in the
words of the job file.
"""

from ithaca_client.client import Client
from ithaca_client.errors import IthacaError
from ithaca_client.job_file import job_spec

__all__ = ["Client", "IthacaError", "job_spec"]
