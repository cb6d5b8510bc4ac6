"""One process of `chainrule serve`: started, used over loopback, ended by its process id."""

import http.client
import json
import os
import select
import subprocess
import tempfile
import time

from process import BenchError, environment

START_SECONDS = 30
STOP_SECONDS = 30
ANSWER_SECONDS = 60
READY_PAUSE_SECONDS = 0.0005
LOG_TAIL_BYTES = 2_000
LINE_START = b"listening on http://"
ENDED = ("succeeded", "failed", "cancelled")


class Server:
    """A running server; a context manager that ends it."""

    def __init__(self, binary, data_dir, *options):
        self.log = tempfile.TemporaryFile()
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir, *options]
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment(),
        )
        try:
            self.address = self._listening(begin + START_SECONDS)
            self._wait_until_ready(begin + START_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.perf_counter() - begin

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def _listening(self, deadline):
        """The address in the line that the server prints when it listens."""
        fd, text = self.process.stdout.fileno(), b""
        while (left := deadline - time.perf_counter()) > 0:
            if not select.select([fd], [], [], left)[0]:
                break
            if not (chunk := os.read(fd, 4096)):
                break
            text += chunk
            for line in text.split(b"\n")[:-1]:
                if line.startswith(LINE_START):
                    return line.removeprefix(LINE_START).decode().strip()
        raise BenchError(f"the server did not print its address; its log ends\n{self._log_tail()}")

    def _wait_until_ready(self, deadline):
        status = None
        while time.perf_counter() < deadline:
            try:
                status, _ = self.ask("GET", "/readyz")
            except ConnectionError:
                pass
            if status == 200:
                return
            time.sleep(READY_PAUSE_SECONDS)
        raise BenchError(f"the server was not ready in {START_SECONDS} s (last status: {status})")

    def _log_tail(self):
        # Read by position: the server writes through the same file offset.
        fd = self.log.fileno()
        begin = max(0, os.fstat(fd).st_size - LOG_TAIL_BYTES)
        return os.pread(fd, LOG_TAIL_BYTES, begin).decode(errors="replace")

    def ask(self, method, path, body=None, media_type="application/json"):
        """The status and the bytes of the response."""
        connection = http.client.HTTPConnection(self.address, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": media_type} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, media_type="application/json"):
        """The response as JSON. Any status other than success is an error."""
        status, answer = self.ask(method, path, body, media_type)
        if not 200 <= status < 300:
            raise BenchError(f"{method} {path} answered {status}: {answer.decode(errors='replace')}")
        return json.loads(answer)

    def submit(self, request):
        """The id of the new job."""
        return self.json("POST", "/v1/jobs", json.dumps(request).encode())["id"]

    def wait_until(self, job_id, states, seconds):
        """The job, once it is in one of `states`, within about `seconds`."""
        deadline = time.monotonic() + seconds
        # Only the end of a job can be awaited by a long poll; earlier states are polled.
        wait = "?wait_seconds=30" if set(states) <= set(ENDED) else ""
        while time.monotonic() < deadline:
            job = self.json("GET", f"/v1/jobs/{job_id}{wait}")
            if job["state"] in states:
                return job
            if job["state"] in ENDED:
                raise BenchError(f"job {job_id} {job['state']}: {job['error']}")
            time.sleep(0.02)
        raise BenchError(f"job {job_id} was not {' or '.join(states)} in {seconds} s")

    def cancel(self, job_id, seconds):
        """Cancels a running job and waits for its end."""
        self.json("POST", f"/v1/jobs/{job_id}/cancel")
        self.wait_until(job_id, ("cancelled",), seconds)
