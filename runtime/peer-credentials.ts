/**
 * Who is at the other end of a Unix socket, told by the kernel and safe against reuse of the pid.
 *
 * A pid alone proves nothing: its process may have exited since it connected, and another taken its
 * number. A pidfd names the process itself. So a caller reads what it wants of /proc/PID and asks
 * `alive()` afterwards: only if that is true was it read of the process that connected.
 *
 * Source: unix(7) SO_PEERCRED; Linux 6.5 SO_PEERPIDFD; pidfd_open(2).
 */
import { closeSync } from 'node:fs';
import type net from 'node:net';
import koffi from 'koffi';
import { Fault } from './fault.ts';

/** One process, whoever has its pid later. */
export interface HeldProcess {
  readonly pid: number;
  /** Whether that very process still runs; false after `close`. */
  alive(): boolean;
  /** Lets go of the process. */
  close(): void;
}

/** The process that opened a connection; to be let go of when that closes. */
export interface Peer extends HeldProcess {
  readonly uid: number;
  readonly gid: number;
}

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_PEERPIDFD = 77;
const POLLIN = 1;
const EINTR = 4;
/** Signals that come one after the other, as a profiler's do. */
const POLL_ATTEMPTS = 100;
const ENOPROTOOPT = 92;
/** The same number on every architecture. */
const SYS_PIDFD_OPEN = 434;

const libc = koffi.load(null);
koffi.struct('ucred', { pid: 'int32', uid: 'uint32', gid: 'uint32' });
const getCredentials = libc.func(
  'int getsockopt(int fd, int level, int option, _Out_ ucred *value, _Inout_ uint32_t *length)',
);
const getInteger = libc.func(
  'int getsockopt(int fd, int level, int option, _Out_ int *value, _Inout_ uint32_t *length)',
);
const poll = libc.func('int poll(void *fds, ulong count, int timeout)');
const syscall = libc.func('long syscall(long number, ...)');

/** @throws Fault ATTESTATION_DENIED if the kernel does not name the peer */
export function peerCredentials(socket: net.Socket): Peer {
  const fd = descriptorOf(socket);
  const { pid, uid, gid } = credentialsOf(fd);
  return { ...held(pid, peerPidfd(fd) ?? openPidfd(pid)), uid, gid };
}

/**
 * The process that has this pid now. What was known of the pid before is to be looked at again
 * afterwards: it may have been another process's.
 * @throws Fault ATTESTATION_DENIED if there is no such process
 */
export function holdProcess(pid: number): HeldProcess {
  return held(pid, openPidfd(pid));
}

function held(pid: number, opened: number): HeldProcess {
  let pidfd = opened;
  return {
    pid,
    alive: () => pidfd >= 0 && isRunning(pidfd),
    close: () => {
      if (pidfd >= 0) closeSync(pidfd);
      pidfd = -1;
    },
  };
}

function descriptorOf(socket: net.Socket): number {
  const { _handle: handle } = socket as { _handle?: { fd?: unknown } | null };
  const fd = handle?.fd;
  if (typeof fd === 'number' && fd >= 0) return fd;
  throw denied('the socket has no descriptor');
}

function credentialsOf(fd: number): { pid: number; uid: number; gid: number } {
  const credentials = { pid: 0, uid: 0, gid: 0 };
  if (getCredentials(fd, SOL_SOCKET, SO_PEERCRED, credentials, [12]) !== 0) {
    throw denied(`SO_PEERCRED: errno ${koffi.errno()}`);
  }
  // A process of a pid namespace that we do not see has pid 0.
  if (credentials.pid <= 0) throw denied('the peer has no pid here');
  return credentials;
}

/** Undefined on kernels before 6.5, which do not know the option. */
function peerPidfd(fd: number): number | undefined {
  const value = [-1];
  if (getInteger(fd, SOL_SOCKET, SO_PEERPIDFD, value, [4]) === 0) return value[0];
  const errno = koffi.errno();
  if (errno === ENOPROTOOPT) return undefined;
  throw denied(`SO_PEERPIDFD: errno ${errno}`);
}

/**
 * A pidfd of the process that has this pid now. Between a peer's connect and this call the pid may
 * have changed hands, so it is for kernels that offer nothing better.
 * @throws Fault ATTESTATION_DENIED if there is no such process
 */
export function openPidfd(pid: number): number {
  const pidfd = Number(syscall(SYS_PIDFD_OPEN, 'int', pid, 'uint', 0));
  if (pidfd >= 0) return pidfd;
  throw denied(`pidfd_open: errno ${koffi.errno()}`);
}

/**
 * One `struct pollfd`: the descriptor, then the events and what came of them, 16 bits each. Handed over
 * as it is, which takes a sixth of the time of having koffi make it up.
 */
const pollfd = Buffer.alloc(8);
const pollfdDescriptor = new Int32Array(pollfd.buffer, pollfd.byteOffset, 1);
const pollfdEvents = new Int16Array(pollfd.buffer, pollfd.byteOffset + 4, 2);

/** A pidfd becomes readable when its process exits. A signal to this process says nothing of that one. */
function isRunning(pidfd: number): boolean {
  pollfdDescriptor[0] = pidfd;
  pollfdEvents[0] = POLLIN;
  pollfdEvents[1] = 0;
  for (let attempt = 0; attempt < POLL_ATTEMPTS; attempt += 1) {
    const ready = poll(pollfd, 1, 0);
    if (ready >= 0) return ready === 0;
    if (koffi.errno() !== EINTR) return false;
  }
  return false;
}

function denied(cause: string): Fault {
  return new Fault('ATTESTATION_DENIED', 'the peer of the socket cannot be told', { cause });
}
