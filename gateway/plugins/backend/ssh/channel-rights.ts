/**
 * What a grant lets a client open on a target. What is not named here is refused; the target's own
 * rules for the account stand behind it.
 */
import type { SshRights } from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';

/** What a client asks to start in a session channel; all of it untrusted. */
export interface StartRequest {
  readonly kind: 'shell' | 'exec' | 'subsystem';
  /** The command line, or the subsystem's name. */
  readonly command: string;
  readonly hasTerminal: boolean;
}

export type StartVerdict =
  | {
      readonly allowed: true;
      /** As ChannelOpened.kind of a recording. */
      readonly kind: 'shell' | 'exec' | 'sftp' | 'scp';
      /** Which part of what the target writes the record keeps. */
      readonly kept: 'all' | 'first' | 'nothing';
    }
  | {
      readonly allowed: false;
      readonly kind: 'shell' | 'exec' | 'sftp' | 'scp' | 'subsystem' | 'forward';
      readonly rule: ChannelRule;
    };

/** Names of the rules that refuse channels; kept in recordings. */
export type ChannelRule =
  | 'command-not-granted'
  | 'command-unreadable'
  | 'forwarding-never'
  | 'scp-not-possible'
  | 'sftp-not-granted'
  | 'shell-not-granted'
  | 'subsystem-unknown';

export type ChannelRights = Pick<SshRights, 'shell' | 'exec' | 'commands' | 'sftp'>;

/**
 * The remote half of `scp -O`: its flags and one path that no shell makes anything else of.
 * Source: OpenSSH 9.2, scp.c, `main` and `source`
 */
const SCP = /^scp(?: -[vrpdq])* -[tf](?: -- -?| )[\w@%+=:,./~][\w@%+=:,./~-]*$/;
/** U+FFFD stands where bytes were no UTF-8: the target would run another command than was sent. */
const UNREADABLE = /[\0\ufffd]/;

/** A connection through the target, whatever the grant. */
export const FORWARD = {
  ...{ allowed: false, kind: 'forward', rule: 'forwarding-never' },
} as const satisfies StartVerdict;

/** Whether the grant lets this start. */
export function judgeStart(request: StartRequest, rights: ChannelRights): StartVerdict {
  switch (request.kind) {
    case 'shell':
      return rights.shell
        ? { allowed: true, kind: 'shell', kept: 'all' }
        : { allowed: false, kind: 'shell', rule: 'shell-not-granted' };
    case 'exec':
      return judgeCommand(request, rights);
    case 'subsystem':
      return judgeSubsystem(request.command, rights);
  }
}

/** A terminal is part of a shell's right: the gateway's certificate permits none without it. */
export function mayHaveTerminal(rights: ChannelRights): boolean {
  return rights.shell;
}

/** What the client is told of a refusal. */
export function ruleMessage(rule: ChannelRule, grant: string): string {
  return MESSAGES[rule](grant);
}

const MESSAGES: Readonly<Record<ChannelRule, (grant: string) => string>> = {
  'command-not-granted': (grant) => `the grant ${grant} does not give this command`,
  'command-unreadable': () => 'the command line is not UTF-8 without NUL',
  'forwarding-never': () => 'the gateway forwards no ports',
  'scp-not-possible': (grant) =>
    `the grant ${grant} gives file transfer alone: use sftp, or scp without -O`,
  'sftp-not-granted': (grant) => `the grant ${grant} gives no file transfer`,
  'shell-not-granted': (grant) => `the grant ${grant} gives no shell`,
  'subsystem-unknown': () => 'the gateway knows no such subsystem',
};

function judgeCommand({ command, hasTerminal }: StartRequest, rights: ChannelRights): StartVerdict {
  if (UNREADABLE.test(command)) {
    return { allowed: false, kind: 'exec', rule: 'command-unreadable' };
  }
  if (SCP.test(command) && rights.sftp) return judgeScp(rights);
  if (rights.exec || rights.commands.includes(command)) {
    return { allowed: true, kind: 'exec', kept: hasTerminal ? 'all' : 'first' };
  }
  return { allowed: false, kind: 'exec', rule: 'command-not-granted' };
}

/** Where a grant gives sftp alone, the target runs its sftp server whatever command is sent. */
function judgeScp(rights: ChannelRights): StartVerdict {
  if (!rights.shell && !rights.exec && rights.commands.length === 0) {
    return { allowed: false, kind: 'scp', rule: 'scp-not-possible' };
  }
  return { allowed: true, kind: 'scp', kept: 'nothing' };
}

function judgeSubsystem(name: string, rights: ChannelRights): StartVerdict {
  if (name !== 'sftp') return { allowed: false, kind: 'subsystem', rule: 'subsystem-unknown' };
  return rights.sftp
    ? { allowed: true, kind: 'sftp', kept: 'nothing' }
    : { allowed: false, kind: 'sftp', rule: 'sftp-not-granted' };
}
