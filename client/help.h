#pragma once

// The texts of `ithaca --help` and `ithaca VERB --help`.
namespace ithaca::client::help {

inline constexpr char kSummary[] =
    "Ithaca fine-tunes language models on sequences too long for one GPU.\n"
    "This is its command line: it talks to a coordinator (ithacad) over gRPC.\n";

inline constexpr char kFooter[] = R"(
A first job. Write job.yaml:

  name: my-first-job
  model: {path: /models/SmolLM2-135M}
  data: {train: [/data/book.txt], sequence_length: 4096}
  parallelism: {sequence: 2}
  training: {steps: 20}

then ask whether it fits, submit it, and follow it:

  ithaca estimate job.yaml
  ithaca submit job.yaml --watch
  ithaca logs -f latest

Exit codes:
  0  done; watch: the job SUCCEEDED     5  no such job or file
  1  any other error                    6  the coordinator does not answer
  2  the command line is wrong          7  refused in the job's present state
  3  the job file has mistakes         10  watch: the job FAILED
  4  the job does not fit in memory    11  watch: the job was CANCELLED

Environment:
  ITHACA_SERVER   coordinator to talk to, HOST:PORT (default 127.0.0.1:7070)
  ITHACA_TLS_CA, ITHACA_TLS_CERT, ITHACA_TLS_KEY
                  PEM files of a coordinator with TLS, as --tls-ca, --tls-cert and --tls-key of a verb

`ithaca VERB --help` explains a verb, with examples.)";

inline constexpr char kSubmit[] = R"(
Relative paths in the job file are taken from the current directory. The model's config.json is sent along
when it can be read here, so that a job that does not fit is refused before it starts.

Examples:
  ithaca submit job.yaml
  ithaca submit job.yaml --dry-run
  ithaca submit job.yaml --set training.steps=20 --set parallelism.sequence=4 --watch
  sed s/SEED/7/ template.yaml | ithaca submit - -o json)";

inline constexpr char kEstimate[] = R"(
Prints the memory of a rank by term, the settings the plan chooses and why, and, if the job does not fit, the
smallest change that would make it fit (exit code 4). Needs only the job file and the model's config.json.

GPUs: a100-40gb, a100-80gb, b200, h100-80gb, h200, l4, l40s, rtx-4090.

Examples:
  ithaca estimate job.yaml
  ithaca estimate job.yaml --gpu h100-80gb --slots 4
  ithaca estimate job.yaml --memory 24GiB --set data.sequence_length=131072 -o json)";

inline constexpr char kList[] = R"(
Examples:
  ithaca list
  ithaca list --filter 'state=QUEUED|RUNNING AND labels.team=nlp'
  ithaca list --limit 0 -o json)";

inline constexpr char kGet[] = R"(
Examples:
  ithaca get latest
  ithaca get JOB -o yaml)";

inline constexpr char kWatch[] = R"(
On a terminal the view is redrawn in place; elsewhere there is one line for every step and change of state.
With -o json each line is a JSON object. Survives a restart of the coordinator. Interrupting it does not
touch the job. Ends with 0 if the job SUCCEEDED, 10 if it FAILED, 11 if it was CANCELLED.

Examples:
  ithaca watch latest
  ithaca watch JOB | tee steps.txt)";

inline constexpr char kLogs[] = R"(
Examples:
  ithaca logs -f latest
  ithaca logs JOB --rank 0 --attempt 1)";

inline constexpr char kEvents[] = R"(
Examples:
  ithaca events latest
  ithaca events JOB -o json)";

inline constexpr char kMetrics[] = R"(
With -o json each line is a JSON object.

Examples:
  ithaca metrics latest
  ithaca metrics -f JOB -o json)";

inline constexpr char kCancel[] = R"(
Returns at once; `ithaca watch` shows when the job's processes are gone. A job that is over stays as it is.

Examples:
  ithaca cancel latest
  ithaca cancel JOB --grace 60)";

inline constexpr char kDelete[] = R"(
Checkpoints and exported models stay. A job that is not over must be cancelled first (exit code 7).

Example:
  ithaca delete JOB)";

}  // namespace ithaca::client::help
