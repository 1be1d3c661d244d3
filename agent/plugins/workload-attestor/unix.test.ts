import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../../runtime/clock.ts';
import { skipWithout } from '../../../test/fixtures/programs.ts';
import { parseStatus, unixWorkloadAttestor } from './unix.ts';
import { ALL_VALUES } from './workload-attestor.ts';

const status = (name: string) =>
  `Name:\t${name}\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\nGid:\t2000\t2001\t2002\t2003\nGroups:\t4 24 2001 \n`;

describe('parseStatus', () => {
  it('reads effective ids and supplementary groups', () => {
    const expected = { uid: 1001, gid: 2001, supplementary: [4, 24, 2001] };
    assert.deepEqual(parseStatus(status('cat')), expected);
  });

  it('takes no ids from the name that a process gives itself', () => {
    for (const name of ['\rUid:\t0\t0', 'Uid:\t0\t0', '\\nUid:\t0\t0', '\u2028Uid:\t0\t0']) {
      assert.equal(parseStatus(status(name)).uid, 1001, JSON.stringify(name));
    }
  });

  it('refuses a text without ids', () => {
    assert.throws(() => parseStatus('Name:\tcat\n'));
    assert.throws(() => parseStatus('Uid:\t1 x\nGid:\t1 1\n'));
  });
});

describe('unixWorkloadAttestor', () => {
  const attestor = unixWorkloadAttestor({ clock: systemClock });
  const { pid } = process;
  const [uid, gid] = [process.geteuid?.() ?? -1, process.getegid?.() ?? -1];

  it('tells uid, gid, names, path and hash of this very process', async () => {
    const values = await attestor.attest({ pid, uid, gid }, ALL_VALUES);
    assert.ok(values.includes(`uid:${process.geteuid?.()}`));
    assert.ok(values.includes(`gid:${process.getegid?.()}`));
    assert.ok(values.includes(`path:${process.execPath}`));
    assert.equal(values.filter((value) => /^sha256:[0-9a-f]{64}$/.test(value)).length, 1);
  });

  it('looks at no program and no name that nobody asks about, and always at the user', async () => {
    const kindsOf = async (...wanted: string[]) => {
      const values = await attestor.attest({ pid, uid, gid }, new Set(wanted));
      const kinds = new Set(values.map((value) => value.slice(0, value.indexOf(':'))));
      return [...kinds].filter((kind) => kind !== 'supplementary_gid').sort();
    };
    assert.deepEqual(await kindsOf(), ['gid', 'uid']);
    assert.deepEqual(await kindsOf('path'), ['gid', 'path', 'uid']);
    assert.deepEqual(await kindsOf('sha256'), ['gid', 'path', 'sha256', 'uid']);
    assert.deepEqual(await kindsOf('user'), ['gid', 'uid', 'user']);
    const other = { pid, uid: uid + 1, gid };
    await assert.rejects(attestor.attest(other, new Set()), { code: 'ATTESTATION_DENIED' });
  });

  it('refuses a process that has another user or group than when it connected', async () => {
    for (const connected of [
      { pid, uid: uid + 1, gid },
      { pid, uid, gid: gid + 1 },
    ])
      await assert.rejects(attestor.attest(connected, ALL_VALUES), { code: 'ATTESTATION_DENIED' });
  });

  it('refuses a pid that is nobody', async () => {
    await assert.rejects(attestor.attest({ pid: 2 ** 30, uid, gid }, ALL_VALUES), {
      code: 'ATTESTATION_DENIED',
    });
  });

  it('refuses a process that executes a set-user-ID program while it is looked at', async function () {
    if (process.getuid?.() !== 0) skipWithout(this, 'root, whom a set-user-ID program can be of');
    const directory = await mkdtemp(join(tmpdir(), 'writ-unix-'));
    const nobody = { uid: 65_534, gid: 65_534 };
    const trusted = join(directory, 'trusted');
    // So large that to hash it takes longer than to execute another.
    const large = join(directory, 'large');
    await chmod(directory, 0o755);
    await copyFile('/usr/bin/timeout', trusted);
    await chmod(trusted, 0o4755);
    await copyFile('/bin/sh', large);
    await truncate(large, 300_000_000);
    const child = spawn(large, ['-c', `read line; exec ${trusted} 60 sleep 60`], nobody);
    try {
      await once(child, 'spawn');
      assert.ok(child.pid);
      const attested = attestor.attest({ pid: child.pid, ...nobody }, ALL_VALUES);
      await sleep(30);
      child.stdin.write('now\n');
      await assert.rejects(attested, { code: 'ATTESTATION_DENIED', message: /changed its user/ });
    } finally {
      child.kill('SIGTERM');
      await once(child, 'exit');
      await rm(directory, { recursive: true });
    }
  });
});
