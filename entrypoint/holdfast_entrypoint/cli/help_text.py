"""The text of `holdfast --help`, within 80 columns."""

from __future__ import annotations

COMMANDS = """\
Run a training script and keep its checkpoints on S3: restore the newest ones
before it starts, store new ones while it runs, and store the last ones before
the machine is taken away.

  holdfast run [--] COMMAND...  run a command under holdfast; COMMAND... alone
                                does the same
  holdfast train                run SAGEMAKER_PROGRAM as SageMaker does; the
                                default without COMMAND
  holdfast ls URI               list snapshots and checkpoints under a prefix
  holdfast pull URI DIRECTORY   download a snapshot, or one checkpoint of it
  holdfast push PATH URI        store a file or directory as one checkpoint
  holdfast verify URI           read stored files back and compare checksums
  holdfast gc URI               delete what the retention policy does not keep

URI is s3://BUCKET/PREFIX or file:///DIRECTORY. `holdfast COMMAND --help` lists
the options of a command.
"""

ENVIRONMENT = """\
environment:
  CHECKPOINT_S3_URI          store of the checkpoints, s3://BUCKET/PREFIX or
                             file:///DIRECTORY (default: none, checkpoints are
                             not stored)
  CHECKPOINT_LOCAL_PATH      checkpoint directory of the script (default
                             /opt/ml/checkpoints)
  CHECKPOINT_RESTORE         checkpoints of the newest snapshot to restore: all
                             (before the script starts), latest (the newest
                             before it starts, the older ones while it runs) or
                             none (default all)
  CHECKPOINT_RETENTION       snapshots to keep: 3 (the last three), 3+6h (and
                             one for every six hours), all, or mirror (delete
                             what the script deletes) (default 3)
  OUTPUT_S3_URI              store of model.tar.gz and output.tar.gz (default:
                             none)
  AWS_ENDPOINT_URL_S3, S3_ENDPOINT_URL
                             URL of an S3-compatible server (default: AWS)
  SAGEMAKER_PROGRAM          Python file under /opt/ml/code that `train` runs
  SAGEMAKER_BASE_DIR         directory to use in place of /opt/ml
  HOLDFAST_GRACE_SECONDS     seconds between SIGTERM and SIGKILL here (default
                             10 to 120, by platform)
  HOLDFAST_STOP_SIGNAL       signal that stops the script (default SIGTERM)
  HOLDFAST_HOST_NOTICE_FILE  file that the host creates when the instance is
                             reclaimed (default: none)
  HOLDFAST_HOSTS             names of all hosts of a job that runs on several,
                             separated by commas (default: SageMaker's, or those
                             of an AWS Batch multi-node job)
  HOLDFAST_HOST              name of this host among them (default: host name)
  HOLDFAST_RUN               identifier of one start of the job: the same on all
                             hosts, another at the next start
  HOLDFAST_S3_TIMEOUT_SECONDS
                             read timeout in seconds of requests to S3 (default
                             60)
  HOLDFAST_UPLOAD_LIMIT      upload rate while the script runs, such as 50MB/s
                             (default: no limit)
  HOLDFAST_REPORT_FILE       file for a JSON report of this run (default: none)
  HOLDFAST_LOG_LEVEL         lowest level to log: debug, info, warning or error
                             (default info)
  HOLDFAST_LOG_FORMAT        format of the log: text or json (default text);
                             text has the time unless the container engine, the
                             platform or the journal adds it

exit codes:
  the script's own           the script ended by itself, everything is stored
                             (128+n for signal n)
  143                        interrupted, everything is stored: run it again
  75                         interrupted, not everything was stored in time: run
                             it again with a longer grace
  74                         the script ended well, its last files are not
                             stored
  64                         bad configuration
  65                         no snapshot verifies
  69                         the store is unreachable or denies access, or
                             another container has taken over the prefix
  70                         a bug in holdfast
  126 / 127                  the command cannot be executed / is not found
"""
