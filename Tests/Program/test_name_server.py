"""`names serve` and `names backup`: the API over real sockets, hostile clients, kill -9, a full disk, a stop in order."""

import concurrent.futures
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import unittest

import program
from names_kit import Client, Owner
from program import PATIENCE, ROOT, ProgramTest, end, left, read_line

CERTIFICATES = os.path.join(ROOT, "Tests/Fixtures/tls")


class NameServerTest(ProgramTest):
    def serve(self, *args, db="names.sqlite", listen=("127.0.0.1:0",), env=None, **options):
        """Starts it; gives the process and the ports, one for each address."""
        process = self.start_program(
            "names", "serve", "--db", db, *[word for address in listen for word in ("--listen", address)], *args,
            env=env, **options)
        ports = []
        for _ in listen:
            line = read_line(process.stdout)
            self.assertRegex(line, r"^https?://.*:\d+\n$", program.Left(process))
            ports.append(int(line.rsplit(":", 1)[1]))
        return process, ports

    def client(self, port, **options):
        client = Client(port, **options)
        self.addCleanup(client.close)
        return client

    def connection(self, port, source="127.0.0.1"):
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0))
        self.addCleanup(connection.close)
        return connection

    def assert_error(self, answer, status, code):
        self.assertEqual((answer[0], answer[2]["error"]["code"]), (status, code), answer)
        self.assertTrue(answer[2]["error"]["message"])


class Api(NameServerTest):
    def test_a_name_from_its_registration_to_its_end(self):
        _, (port,) = self.serve()
        client, anna, bob = self.client(port), Owner("anna"), Owner("bob")
        self.assert_error(client.lookup("example.peer"), 404, "not_found")
        first = anna.record("example.peer", "p2pd1first")
        self.assertEqual(client.push(first)[::2], (201, json.loads(first)))
        self.assertEqual(client.push(first)[0], 200, "the same again")
        self.assertEqual(client.lookup("example.peer")[::2], (200, json.loads(first)))
        self.assertEqual(client.lookup("EXAMPLE.Peer")[0], 200, "names are the same in capitals")
        refused = client.push(bob.record("example.peer", sequence=9))
        self.assert_error(refused, 403, "wrong_key")
        self.assertNotIn("key", refused[2])
        second = anna.record("example.peer", "p2pd1second", sequence=2)
        self.assertEqual(client.push(second)[0], 200)
        stale = client.push(first)
        self.assert_error(stale, 409, "stale")
        self.assertEqual(stale[2]["record"], json.loads(second))
        self.assert_error(client.ask("DELETE", "/v1/names/example.peer", second), 400, "bad_record")
        gone = anna.record("example.peer", "", sequence=3)
        self.assertEqual(client.ask("DELETE", "/v1/names/example.peer", gone)[0], 200)
        self.assert_error(client.ask("DELETE", "/v1/names/example.peer", gone), 404, "not_found")
        self.assertEqual(client.lookup("example.peer")[::2], (200, json.loads(gone)))
        self.assert_error(client.push(second), 409, "stale")
        self.assertEqual(client.push(bob.record("example.peer"))[0], 201, "given up, it is anybody's")
        self.assert_error(client.push(anna.record("example.peer", sequence=4)), 403, "wrong_key")

    def test_what_nobody_has_cannot_be_given_up_and_is_kept_in_mind_all_the_same(self):
        _, (port,) = self.serve()
        client, anna = self.client(port), Owner("anna")
        for sequence in (5, 6):
            gone = anna.record("example.peer", "", sequence=sequence)
            self.assert_error(client.ask("DELETE", "/v1/names/example.peer", gone), 404, "not_found")
        self.assert_error(client.push(anna.record("example.peer", sequence=4)), 409, "stale")
        self.assertEqual(client.push(anna.record("example.peer", sequence=7))[0], 201)

    def test_a_name_in_another_script_is_percent_encoded(self):
        _, (port,) = self.serve()
        client = self.client(port)
        record = Owner("anna").record("grün.peer")
        self.assertEqual(client.ask("PUT", "/v1/names/gr%C3%BCn.peer", record.encode())[0], 201)
        self.assertEqual(client.lookup("gr%C3%BCn.peer")[2]["name"], "grün.peer")

    def test_records_that_are_none(self):
        _, (port,) = self.serve()
        client, anna = self.client(port), Owner("anna")
        good = anna.record("a.peer")
        for what, body, code in [
            ("no JSON", "{", "bad_record"), ("nothing", "", "bad_record"), ("a list", "[]", "bad_record"),
            ("without a key", json.dumps({k: v for k, v in json.loads(good).items() if k != "key"}), "bad_record"),
            ("a changed value", json.dumps({**json.loads(good), "value": "p2pd1evil"}), "bad_record"),
            ("another's key", json.dumps({**json.loads(good), "key": json.loads(Owner("bob").record("a.peer"))["key"]}),
             "bad_record"),
            ("another's name", anna.record("b.peer"), "bad_record"),
            ("expired", anna.record("a.peer", lifetime=-5), "expired"),
            ("for ever", anna.record("a.peer", lifetime=8 * 86_400), "bad_record"),
            ("a long value", anna.record("a.peer", "x" * 1025), "too_large"),
            ("a deep nest", "[" * 4000, "bad_record"),
        ]:
            with self.subTest(what):
                answer = client.ask("PUT", "/v1/names/a.peer", body)
                self.assertIn(answer[0], (400, 413), answer)
                self.assert_error(answer, 413 if code == "too_large" else 400, code)
        self.assert_error(client.lookup("a.peer"), 404, "not_found")

    def test_rates_and_allowances(self):
        _, (port,) = self.serve("--push-rate", "0.5", "--names-per-key", "2", "--trust-forwarded")
        client, anna = self.client(port), Owner("anna")

        def push(number, address):
            return client.push(anna.record(f"n{number}.peer"), {"X-Forwarded-For": f"9.9.9.9, {address}"})

        self.assertEqual([push(n, "192.0.2.1")[0] for n in range(2)], [201, 201])
        full = push(2, "192.0.2.1")
        self.assert_error(full, 429, "limit")
        self.assertGreater(int(full[1]["retry-after"]), 80_000)
        statuses = [push(n % 2, "192.0.2.1")[0] for n in range(12)]
        self.assertEqual(statuses[-1], 429)
        self.assertLessEqual(int(push(0, "192.0.2.1")[1]["retry-after"]), 3)
        self.assertNotEqual(push(0, "192.0.2.2")[0], 429, "another source")

    def test_status_and_metrics(self):
        _, (port,) = self.serve()
        client = self.client(port)
        client.push(Owner("anna").record("a.peer"))
        client.lookup("a.peer")
        status = client.ask("GET", "/v1/status")[2]
        self.assertEqual((status["names"], set(status)), (1, {"version", "names", "uptime", "time"}))
        text = client.ask("GET", "/metrics")[2]
        self.assertRegex(text, r'(?m)^p2pd_names_requests_total\{method="PUT",status="201"\} 1$')
        self.assertRegex(text, r"(?m)^p2pd_names_stored 1$")
        self.assertRegex(text, r"(?m)^p2pd_names_cache_hits_total 1$")
        for line in text.splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) .*|p2pd_names_\w+(\{[^{}]*\})? [0-9.e+-]+)$')

    def test_both_families(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("there is no IPv6 loopback")
        _, ports = self.serve(listen=("127.0.0.1:0", "[::1]:0"))
        self.assertEqual(self.client(ports[0]).push(Owner("anna").record("a.peer"))[0], 201)
        self.assertEqual(self.client(ports[1], address="::1").lookup("a.peer")[0], 200)

    def test_https(self):
        _, (port,) = self.serve(
            "--cert", os.path.join(CERTIFICATES, "server.pem"), "--key", os.path.join(CERTIFICATES, "server.key"))
        context = ssl.create_default_context(cafile=os.path.join(CERTIFICATES, "ca.pem"))
        context.check_hostname = False
        with context.wrap_socket(self.connection(port), server_hostname="localhost") as tls:
            tls.sendall(b"GET /v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            self.assertTrue(read_all(tls).startswith(b"HTTP/1.1 200 OK"))
        plain = self.connection(port)
        plain.sendall(b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertNotIn(b"HTTP", read_all(plain))


class Hostile(NameServerTest):
    def test_a_thousand_connections_and_one_that_works(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], min(4096, limits[1])), limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        _, (port,) = self.serve("--connections-per-source", "900")
        held = [self.connection(port) for _ in range(1000)]
        for index, connection in enumerate(held):
            # Some say nothing, some begin, some send what is none.
            try:
                connection.sendall([b"", b"GET /v1/sta", b"PUT /v1/names/a.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{"][index % 3])
            except OSError:
                pass
        client = self.client(port, source="127.0.0.2")
        self.assertEqual(client.push(Owner("anna").record("a.peer"))[0], 201)
        self.assertEqual(client.lookup("a.peer")[0], 200)
        text = client.ask("GET", "/metrics")[2]
        self.assertEqual(int(re.search(r"refused_connections_total (\d+)", text)[1]), 100)
        # Those who only wait are hung up on, in the time that each request has; the others are told.
        deadline = time.monotonic() + PATIENCE
        said = b""
        for connection in held[:900]:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            said += read_all(connection)
        self.assertEqual(said.count(b"HTTP/1.1 408 "), 300)
        self.assertEqual(client.lookup("a.peer")[0], 200)

    def test_garbage_and_half_requests(self):
        process, (port,) = self.serve()
        for text in [b"\0" * 5000, os.urandom(5000), b"GET / HTTP/1.1\r\nHost: a\r\n", b"\x16\x03\x01\x02\x00\x01", b"x" * 100_000,
                     b"PUT /v1/names/a.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 4096\r\n\r\n" + b"{" * 4096,
                     b"PUT /v1/names/a.peer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"]:
            connection = self.connection(port)
            try:
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            read_all(connection)
        self.assertIsNone(process.poll())
        self.assertEqual(self.client(port).ask("GET", "/v1/status")[0], 200)

    def test_a_client_that_reads_nothing_is_not_read_from(self):
        _, (port,) = self.serve("--lookup-rate", "1000000")
        connection = self.connection(port)
        connection.setblocking(False)
        request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 100
        sent = 0
        while select.select([], [connection], [], 1)[1]:
            sent += connection.send(request)
            self.assertLess(sent, 50_000_000, "it takes requests without end")
        self.assertEqual(self.client(port).ask("GET", "/v1/status")[0], 200)

    def test_many_requests_at_once_are_answered_in_order(self):
        _, (port,) = self.serve()
        client = self.client(port)
        anna = Owner("anna")
        for n in range(20):
            self.assertEqual(client.push(anna.record(f"n{n}.peer", str(n)))[0], 201)
        connection = self.connection(port)
        connection.sendall(b"".join(b"GET /v1/names/n%d.peer HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(20)))
        connection.shutdown(socket.SHUT_WR)
        values = re.findall(rb'"value":"(\d+)"', read_all(connection))
        self.assertEqual(values, [b"%d" % n for n in range(20)])


class Lasting(NameServerTest):
    def test_what_was_acknowledged_survives_kill_9(self):
        """Rounds of pushes from four connections, each ended by SIGKILL in their midst; after each, all that was acknowledged
        since the first must be there, signed as it was."""
        owners = [Owner(f"owner {n}") for n in range(4)]
        records = [[owner.record(f"o{o}n{n}.peer", f"value {n}") for n in range(60)] for o, owner in enumerate(owners)]
        renewed = [[owner.record(f"o{o}n{n}.peer", f"newer {n}", sequence=2) for n in range(60)] for o, owner in enumerate(owners)]
        acknowledged, killed_midway = {}, 0
        for stage, batch in enumerate([records, records, renewed, renewed]):
            process, (port,) = self.serve("--push-rate", "100000", "--names-per-source", "1000")
            count = [0]

            def push(own, port=port, process=process, count=count, enough=30 + 50 * stage):
                client = Client(port)
                try:
                    for record in own:
                        status, _, answer = client.push(record)
                        if status in (200, 201):
                            acknowledged[answer["name"]] = answer
                            self.assertEqual(answer, json.loads(record))
                        else:
                            self.assertEqual(status, 409)
                        count[0] += 1
                        if count[0] == enough:
                            process.kill()
                except (OSError, ValueError, EOFError) as error:
                    self.assertNotIsInstance(error, AssertionError)
                except Exception as error:  # http.client's own, of a connection that broke
                    self.assertEqual(type(error).__module__, "http.client", error)
                finally:
                    client.close()

            with concurrent.futures.ThreadPoolExecutor() as pool:
                for done in [pool.submit(push, own) for own in batch]:
                    done.result()
            self.assertEqual(process.wait(PATIENCE), -signal.SIGKILL)
            killed_midway += count[0] < 240
            end(process)
            process, (port,) = self.serve("--lookup-rate", "100000")
            client = Client(port)
            for name, record in acknowledged.items():
                status, _, found = client.lookup(name)
                self.assertEqual(status, 200, name)
                self.assertGreaterEqual(found["sequence"], record["sequence"])
                if found["sequence"] == record["sequence"]:
                    self.assertEqual(found, record)
            client.close()
            process.kill()
            end(process)
        self.assertGreaterEqual(killed_midway, 3)
        self.assertGreater(len(acknowledged), 60)

    def test_a_second_server_for_one_file_says_why_not(self):
        process, _ = self.serve()
        done = self.run_program("names", "serve", "--db", "names.sqlite", "--listen", "127.0.0.1:0")
        self.assertEqual(done.status, 1, done)
        self.assertIn(f"process {process.pid}", done.err)
        self.assertIn("--db", done.err)

    def test_a_port_that_is_taken_says_so(self):
        _, (port,) = self.serve()
        done = self.run_program("names", "serve", "--db", "other.sqlite", "--listen", f"127.0.0.1:{port}")
        self.assertEqual(done.status, 1, done)
        self.assertRegex(done.err, "(?i)in use")

    def test_sigterm_finishes_what_is_under_way(self):
        process, (port,) = self.serve("--push-rate", "100000")
        resting, sending = self.client(port), self.connection(port)
        resting.ask("GET", "/v1/status")
        sending.sendall(b"PUT /v1/names/a.peer HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n{")
        statuses, owner = [], Owner("anna")
        records = [owner.record(f"n{n}.peer") for n in range(40)]
        started = threading.Event()

        def push():
            client = Client(port)
            try:
                for record in records:
                    statuses.append(client.push(record)[0])
                    started.set()
            except Exception:
                pass  # the connection that was closed between two requests
            client.close()

        thread = threading.Thread(target=push)
        thread.start()
        self.assertTrue(started.wait(PATIENCE))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 0, left(process))
        self.assertLess(time.monotonic() - began, 5)
        thread.join()
        self.assertIn(b"503", read_all(sending)[:20])
        self.assertEqual(set(statuses) - {201, 503}, set())
        end(process)
        _, (port,) = self.serve()
        self.assertEqual(self.client(port).ask("GET", "/v1/status")[2]["names"], statuses.count(201))

    def test_a_backup_of_a_server_at_work(self):
        process, (port,) = self.serve("--push-rate", "100000")
        client, anna = self.client(port), Owner("anna")
        for n in range(20):
            client.push(anna.record(f"n{n}.peer"))
        done = self.run_program("names", "backup", "--db", "names.sqlite", "--to", "copy.sqlite")
        self.assertEqual(done.status, 0, done)
        self.assertRegex(done.err, r"20 names, \d+ bytes, checked")
        self.assertEqual(client.push(anna.record("later.peer"))[0], 201)
        self.assertEqual(oct(os.stat(os.path.join(self.folder, "copy.sqlite")).st_mode & 0o777), "0o600")
        process.kill()
        end(process)
        _, (port,) = self.serve(db="copy.sqlite")
        self.assertEqual(self.client(port).ask("GET", "/v1/status")[2]["names"], 20)
        self.write("text", "this is no database, though it is longer than nothing")
        for args in (["--db", "none", "--to", "x"], ["--db", "text", "--to", "x"], ["--db", "names.sqlite", "--to", "no/x"]):
            done = self.run_program("names", "backup", *args)
            self.assertEqual(done.status, 1, done)
            self.assertFalse(os.path.exists(os.path.join(self.folder, "x")))

    def test_a_full_disk_is_told_and_nothing_is_lost(self):
        small = os.path.join(self.folder, "small")
        os.mkdir(small)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", small], capture_output=True, check=False)
        if mounted.returncode:
            self.skipTest("a small file system cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", small], check=False)
        process, (port,) = self.serve("--push-rate", "100000", "--names-per-key", "1000", db="small/names.sqlite")
        client, anna = self.client(port), Owner("anna")
        stored, refused = [], 0
        for n in range(300):
            status, headers, answer = client.push(anna.record(f"n{n}.peer", "x" * 1000))
            if status == 201:
                stored.append(answer)
            else:
                self.assertEqual((status, answer["error"]["code"]), (503, "storage"), answer)
                self.assertIn("full", answer["error"]["message"])
                self.assertIn("retry-after", headers)
                refused += 1
                if refused == 5:
                    break
        self.assertEqual(refused, 5, "the disk did not fill")
        self.assertGreater(len(stored), 5)
        self.assertTrue(all(client.lookup(record["name"])[2] == record for record in stored))
        process.kill()
        end(process)
        subprocess.run(["mount", "-o", "remount,size=3m", small], check=True)
        _, (port,) = self.serve(db="small/names.sqlite")
        client = self.client(port)
        self.assertTrue(all(client.lookup(record["name"])[2] == record for record in stored))
        self.assertEqual(client.push(anna.record("room.peer"))[0], 201)

    def test_a_certificate_is_read_anew_by_sighup(self):
        for name in ("server.pem", "server.key"):
            shutil.copy(os.path.join(CERTIFICATES, name), self.folder)
        process, (port,) = self.serve("--cert", "server.pem", "--key", "server.key", start_new_session=True)
        program.wait_for_signal_handler(process, signal.SIGHUP)
        os.remove(os.path.join(self.folder, "server.pem"))
        process.send_signal(signal.SIGHUP)
        program.read_until(process.stderr, "the old certificate stays in use")
        shutil.copy(os.path.join(CERTIFICATES, "server.pem"), self.folder)
        process.send_signal(signal.SIGHUP)
        program.read_until(process.stderr, "were read anew")
        context = ssl.create_default_context(cafile=os.path.join(CERTIFICATES, "ca.pem"))
        context.check_hostname = False
        with context.wrap_socket(self.connection(port), server_hostname="localhost") as tls:
            tls.sendall(b"GET /v1/status HTTP/1.0\r\n\r\n")
            self.assertTrue(read_all(tls).startswith(b"HTTP/1.1 200 OK"))


class CommandLine(ProgramTest):
    def test_wrong_options(self):
        for args in (["--db", "x"], ["--listen", "127.0.0.1:0"], ["--db", "x", "--listen", "nowhere"],
                     ["--db", "x", "--listen", "127.0.0.1:0", "--cert", "c"], ["--db", "x", "--listen", "127.0.0.1:0", "--push-rate", "0"],
                     ["--db", "x", "--listen", "127.0.0.1:0", "--names-per-key", "0"]):
            done = self.run_program("names", "serve", *args)
            self.assertEqual(done.status, 2, done)
        for args in (["--db", "no/such/x", "--listen", "127.0.0.1:0"], ["--db", ".", "--listen", "127.0.0.1:0"],
                     ["--db", "x", "--listen", "192.0.2.99:1"],
                     ["--db", "x", "--listen", "127.0.0.1:0", "--cert", "none", "--key", "none"]):
            done = self.run_program("names", "serve", *args)
            self.assertEqual(done.status, 1, done)
            self.assertIn("cannot start", done.err)


def read_all(connection):
    out = b""
    try:
        while piece := connection.recv(65536):
            out += piece
    except OSError:
        pass
    return out


if __name__ == "__main__":
    unittest.main()
