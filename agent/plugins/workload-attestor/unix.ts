/**
 * Workload attestor `unix`: who runs a process, and which program it is.
 * Selectors as SPIRE's: uid, user, gid, group, supplementary_gid, supplementary_group, path, sha256.
 */
import type { Clock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import { readStatus, statusNumbers } from '../../workload/process-status.ts';
import { AccountNames } from './unix-accounts.ts';
import { Executables } from './unix-executable.ts';
import type { ConnectedProcess, WantedValues, WorkloadAttestor } from './workload-attestor.ts';

/** Where the facts come from; all but the clock has its usual place. */
export interface UnixAttestorOptions {
  readonly clock: Clock;
  readonly passwdFile?: string;
  readonly groupFile?: string;
}

export function unixWorkloadAttestor(options: UnixAttestorOptions): WorkloadAttestor {
  const users = new AccountNames(options.passwdFile ?? '/etc/passwd');
  const groups = new AccountNames(options.groupFile ?? '/etc/group');
  const executables = new Executables(options.clock);

  /** Costs a read of the executable file, which may be long and on a file system that is slow. */
  async function programOf(connected: ConnectedProcess, wanted: WantedValues): Promise<string[]> {
    const values: string[] = [];
    const { path, sha256 } = await executables.of(connected.pid, { hash: wanted.has('sha256') });
    // The program may have been executed since they were read, and be a set-user-ID one.
    unchangedCredentials(connected);
    pushKnown(values, 'path', path);
    pushKnown(values, 'sha256', sha256);
    return values;
  }

  async function attest(
    connected: ConnectedProcess,
    wanted: WantedValues,
  ): Promise<readonly string[]> {
    const { uid, gid, supplementary } = unchangedCredentials(connected);
    const isProgramWanted = wanted.has('path') || wanted.has('sha256');
    const program = isProgramWanted ? await programOf(connected, wanted) : [];
    const values = [`uid:${uid}`, `gid:${gid}`, ...program];
    if (wanted.has('user')) pushKnown(values, 'user', await users.nameOf(uid));
    if (wanted.has('group')) pushKnown(values, 'group', await groups.nameOf(gid));
    for (const id of supplementary) values.push(`supplementary_gid:${id}`);
    if (wanted.has('supplementary_group')) {
      for (const id of supplementary)
        pushKnown(values, 'supplementary_group', await groups.nameOf(id));
    }
    return values;
  }

  return { type: 'unix', attest };
}

function pushKnown(values: string[], name: string, value: string | undefined): void {
  if (value !== undefined) values.push(`${name}:${value}`);
}

interface Credentials {
  readonly uid: number;
  readonly gid: number;
  readonly supplementary: readonly number[];
}

/** Anyone can connect, hand the socket to a child, and then execute a set-user-ID program. */
function unchangedCredentials({ pid, uid, gid }: ConnectedProcess): Credentials {
  const credentials = credentialsOf(pid);
  if (credentials.uid === uid && credentials.gid === gid) return credentials;
  throw new Fault('ATTESTATION_DENIED', 'the calling process has changed its user or group');
}

function credentialsOf(pid: number): Credentials {
  try {
    return parseStatus(readStatus(pid));
  } catch (cause) {
    throw new Fault('ATTESTATION_DENIED', 'the calling process cannot be read', { cause });
  }
}

/** Effective ids and supplementary groups in the text of /proc/PID/status. */
export function parseStatus(text: string): Credentials {
  const uid = statusNumbers(text, 'Uid:')[1];
  const gid = statusNumbers(text, 'Gid:')[1];
  if (uid === undefined || gid === undefined) throw new Error('no Uid or Gid in /proc/PID/status');
  return { uid, gid, supplementary: statusNumbers(text, 'Groups:') };
}
