import assert from 'node:assert/strict';
import {
  type ChannelRights,
  judgeStart,
  mayHaveTerminal,
  ruleMessage,
  type StartRequest,
} from './channel-rights.ts';

const NOTHING: ChannelRights = { shell: false, exec: false, commands: [], sftp: false };
const ALL: ChannelRights = { shell: true, exec: true, commands: [], sftp: true };

const shell: StartRequest = { kind: 'shell', command: '', hasTerminal: true };
const exec = (command: string, hasTerminal = false): StartRequest => ({
  kind: 'exec',
  command,
  hasTerminal,
});
const subsystem = (command: string): StartRequest => ({
  kind: 'subsystem',
  command,
  hasTerminal: false,
});
const refusal = (request: StartRequest, rights: ChannelRights): string => {
  const verdict = judgeStart(request, rights);
  return verdict.allowed ? 'allowed' : verdict.rule;
};

describe('judgeStart', () => {
  it('gives nothing under a grant that gives nothing', () => {
    for (const request of [shell, exec('id'), exec('scp -t x'), subsystem('sftp')]) {
      assert.equal(judgeStart(request, NOTHING).allowed, false);
    }
  });

  it('keeps all of a shell, and of a command in a terminal', () => {
    assert.deepEqual(judgeStart(shell, ALL), { allowed: true, kind: 'shell', kept: 'all' });
    assert.deepEqual(judgeStart(exec('top', true), ALL), {
      allowed: true,
      kind: 'exec',
      kept: 'all',
    });
  });

  it('keeps the first part of a command without one, and nothing of transfers', () => {
    assert.deepEqual(judgeStart(exec('id'), ALL), { allowed: true, kind: 'exec', kept: 'first' });
    assert.deepEqual(judgeStart(subsystem('sftp'), ALL), {
      allowed: true,
      kind: 'sftp',
      kept: 'nothing',
    });
    assert.deepEqual(judgeStart(exec('scp -t .'), ALL), {
      allowed: true,
      kind: 'scp',
      kept: 'nothing',
    });
  });

  it('needs the right to a shell for a shell, whatever else is granted', () => {
    assert.equal(refusal(shell, { ...ALL, shell: false }), 'shell-not-granted');
  });

  it('takes a listed command byte by byte', () => {
    const rights = { ...NOTHING, commands: ['systemctl restart web'] };
    assert.equal(judgeStart(exec('systemctl restart web'), rights).allowed, true);
    for (const command of [
      ...['systemctl restart web ', ' systemctl restart web', 'systemctl  restart web'],
      ...['systemctl restart web;id', 'systemctl restart', 'Systemctl restart web', ''],
    ]) {
      assert.equal(refusal(exec(command), rights), 'command-not-granted', command);
    }
  });

  it('refuses a command line that would reach the target as another', () => {
    assert.equal(refusal(exec('cat caf\ufffd'), ALL), 'command-unreadable');
    assert.equal(refusal(exec('id\0'), ALL), 'command-unreadable');
    assert.equal(judgeStart(exec('cat café'), ALL).allowed, true);
  });

  it('knows no subsystem but sftp', () => {
    for (const name of ['netconf', 'SFTP', 'sftp ', '', 'sftp\0']) {
      assert.equal(refusal(subsystem(name), ALL), 'subsystem-unknown');
    }
    assert.equal(refusal(subsystem('sftp'), { ...ALL, sftp: false }), 'sftp-not-granted');
  });

  const transfer = { ...NOTHING, sftp: true, commands: ['id'] };
  for (const command of [
    ...['scp -t .', 'scp -f /etc/motd', 'scp -v -r -p -d -t ~/in', 'scp -r -f -- -odd'],
    ...['scp -t a-b_c@d%e+f=g:h,i./~', 'scp -q -t x'],
  ]) {
    it(`takes ${command} for a transfer`, () => {
      const verdict = judgeStart(exec(command), transfer);
      assert.deepEqual(verdict, { allowed: true, kind: 'scp', kept: 'nothing' });
    });
  }

  for (const command of [
    ...['scp', 'scp -t', 'scp -t ', 'scp -t a b', 'scp -t -S/bin/sh', 'scp -S /bin/sh -t x'],
    ...['scp -t x;id', 'scp -t $(id)', 'scp -t `id`', 'scp -t x\nid', "scp -t 'x'", 'scp -t x*'],
    ...['scp -t x|id', 'scp -t x&', 'scp -t >x', 'scp -oProxyCommand=id -t x', 'scp x y'],
    ...['/usr/bin/scp -t x', 'scp -tx', 'scp -t x\\', 'scp -t {a,b}', 'scp -t x ', 'scp -T -t x'],
    ...['scp -t !x', 'scp -t #', 'scp -t x\n', 'scp\t-t x', 'scp -t "x"', 'scp -t [x]', 'scp -t ?'],
  ]) {
    it(`takes ${JSON.stringify(command)} for a command like any other`, () => {
      assert.equal(refusal(exec(command), transfer), 'command-not-granted');
      assert.deepEqual(judgeStart(exec(command), ALL), {
        allowed: true,
        kind: 'exec',
        kept: 'first',
      });
    });
  }

  it('says that scp -O needs more where the target runs its sftp server alone', () => {
    assert.equal(refusal(exec('scp -t .'), { ...NOTHING, sftp: true }), 'scp-not-possible');
  });

  it('takes scp for any command, recorded, where the grant gives no file transfer', () => {
    assert.deepEqual(judgeStart(exec('scp -t .'), { ...NOTHING, exec: true }), {
      allowed: true,
      kind: 'exec',
      kept: 'first',
    });
  });

  it('runs a listed command that looks like scp as a command, recorded', () => {
    const rights = { ...NOTHING, commands: ['scp -t /in'] };
    assert.deepEqual(judgeStart(exec('scp -t /in'), rights), {
      allowed: true,
      kind: 'exec',
      kept: 'first',
    });
  });
});

describe('mayHaveTerminal', () => {
  it('follows the right to a shell', () => {
    assert.equal(mayHaveTerminal(ALL), true);
    assert.equal(mayHaveTerminal({ ...ALL, shell: false }), false);
  });
});

describe('ruleMessage', () => {
  it('names the grant and nothing that the client sent', () => {
    assert.equal(ruleMessage('shell-not-granted', 'reads'), 'the grant reads gives no shell');
  });
});
