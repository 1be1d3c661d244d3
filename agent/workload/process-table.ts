import { type HeldProcess, holdProcess } from '../../runtime/peer-credentials.ts';
import { readStatus, statusNumbers } from './process-status.ts';

/** What the kernel says of the process that has a pid at that moment. */
export interface ProcessFacts {
  /** 0 if the parent is not one that we see. */
  readonly parent: number;
  /** Whether it is the first process, of the machine or of a pid namespace of its own. */
  readonly isFirst: boolean;
  /** Real, effective, saved set and file system. */
  readonly uids: readonly number[];
  /** The same four. */
  readonly gids: readonly number[];
}

/** The running processes. */
export interface ProcessTable {
  /** @throws if there is no such process */
  factsOf(pid: number): Promise<ProcessFacts>;
  /** @throws if there is no such process */
  hold(pid: number): HeldProcess;
}

/** Those of this machine. Source: proc_pid_status(5). */
export const processTable: ProcessTable = {
  async factsOf(pid) {
    const text = readStatus(pid);
    const [parent] = statusNumbers(text, 'PPid:');
    if (parent === undefined) throw new Error('no PPid in /proc/PID/status');
    return {
      parent,
      isFirst: pid === 1 || statusNumbers(text, 'NSpid:').at(-1) === 1,
      uids: statusNumbers(text, 'Uid:'),
      gids: statusNumbers(text, 'Gid:'),
    };
  },
  hold: holdProcess,
};
