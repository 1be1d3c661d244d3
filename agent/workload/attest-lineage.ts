/**
 * What a process and those that started it are: ssh and our command line are tools, run by the program
 * whose identity they are to use (threats S14).
 *
 * An ancestor counts only while it is of the same user and group in every respect, so that nobody is
 * told by what another user runs. It does not tell apart programs of one user that are out to deceive:
 * who may execute a program can start it and be its child.
 */
import { Closers } from '../../runtime/closers.ts';
import type { HeldProcess } from '../../runtime/peer-credentials.ts';
import { type AttestedProcess, type AttestOptions, attestPeer } from './attest-peer.ts';
import { type ProcessFacts, type ProcessTable, processTable } from './process-table.ts';

/** Selectors (`type:value`) of each process, the caller first, then its parent; never empty. */
export type Lineage = readonly ReadonlySet<string>[];

/** The caller is one of them. */
const LONGEST_LINEAGE = 16;

export interface LineageOptions extends Pick<AttestOptions, 'attestors' | 'log'> {
  /** This machine's, but for tests. */
  readonly processes?: ProcessTable;
}

/**
 * The lineage of the calling process as it is now. It ends before the first process of all, before
 * one of another user, and where one has gone or cannot be told.
 * @throws Fault as attestPeer, of the caller alone
 */
export async function attestLineage(
  peer: AttestedProcess,
  options: LineageOptions,
): Promise<Lineage> {
  const { attestors, log, processes = processTable } = options;
  const lineage = [await attestPeer(peer, { attestors, log })];
  await using held = new Closers();
  let child: Pick<HeldProcess, 'pid' | 'alive'> = peer;
  try {
    while (lineage.length < LONGEST_LINEAGE) {
      const parent = await holdParent(child, processes);
      if (parent === undefined) break;
      held.defer(() => parent.close());
      if (!isOfUser(await processes.factsOf(parent.pid), peer)) break;
      const { uid, gid } = peer;
      const { pid } = parent;
      lineage.push(await attestPeer({ pid, uid, gid, alive: parent.alive }, { attestors, log }));
      child = parent;
    }
  } catch (error) {
    log.debug({ peer_pid: peer.pid, err: error }, 'the lineage of a process ends early');
  }
  return lineage;
}

/**
 * The parent, or undefined if there is none that counts. That it is the parent is read again once it
 * is held: before, the parent may have ended and another process taken its pid.
 */
async function holdParent(
  child: Pick<HeldProcess, 'pid' | 'alive'>,
  processes: ProcessTable,
): Promise<HeldProcess | undefined> {
  const { parent: pid, isFirst } = await processes.factsOf(child.pid);
  if (isFirst || pid <= 1) return undefined;
  const parent = processes.hold(pid);
  try {
    const again = await processes.factsOf(child.pid);
    // The child's last: while it lives, what was read by its pid was read of it.
    if (again.parent === pid && parent.alive() && child.alive()) return parent;
  } catch {
    // The child has gone.
  }
  parent.close();
  return undefined;
}

/** One that a set-user-ID program has made partly another's is not. */
function isOfUser(
  { uids, gids }: ProcessFacts,
  { uid, gid }: { readonly uid: number; readonly gid: number },
): boolean {
  const all = (ids: readonly number[], wanted: number) =>
    ids.length > 0 && ids.every((id) => id === wanted);
  return all(uids, uid) && all(gids, gid);
}
