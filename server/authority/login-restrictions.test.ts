import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { SshRightsSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { loginRestrictions } from './login-restrictions.ts';

type Rights = Exclude<MessageInitShape<typeof SshRightsSchema>, { $typeName: string }>;

describe('loginRestrictions', () => {
  const restrict = (rights: Rights, names: readonly string[] = [], address = '192.0.2.7:22') =>
    loginRestrictions(create(SshRightsSchema, rights), { names }, address);

  for (const [rights, command, extensions] of [
    [{ shell: true }, undefined, ['permit-pty']],
    [{ exec: true }, undefined, []],
    [{ commands: ['uptime'] }, undefined, []],
    [{ sftp: true }, 'internal-sftp', []],
    [{ sftp: true, exec: true }, undefined, []],
    [{ sftp: true, commands: ['uptime'] }, undefined, []],
    [{ sftp: true, shell: true }, undefined, ['permit-pty']],
  ] as const) {
    it(`of ${JSON.stringify(rights)}: ${command ?? 'no forced command'}, ${extensions.length} extensions`, () => {
      const given = restrict({
        ...rights,
        commands: [...('commands' in rights ? rights.commands : [])],
      });
      assert.equal(given.criticalOptions['force-command'], command);
      assert.deepEqual(given.extensions, extensions);
    });
  }

  it('gives nothing where the rights give nothing', () => {
    assert.throws(() => restrict({ logins: ['deploy'] }), { code: 'PERMISSION_DENIED' });
  });

  it('binds to the addresses of the record and of the call, each once, and to no name', () => {
    const sources = (names: readonly string[], address: string) =>
      restrict({ exec: true }, names, address).criticalOptions['source-address'];
    assert.equal(sources(['gw.example.org', '10.0.0.7'], '192.0.2.7:22'), '10.0.0.7,192.0.2.7');
    assert.equal(sources(['192.0.2.7', 'fd00::7'], '192.0.2.7:22'), '192.0.2.7,fd00::7');
    assert.equal(sources([], '[2001:db8::1]:22'), '2001:db8::1');
    assert.equal(sources(['fd00::7', 'fe80::1%eth0'], '[fe80::1%eth0]:22'), 'fd00::7');
  });

  it('gives nothing to a gateway whose address is not known', () => {
    for (const address of ['', 'uid:0', '[fe80::1%eth0]:22'])
      assert.throws(() => restrict({ exec: true }, ['gw.example.org'], address), {
        code: 'FAILED_PRECONDITION',
      });
  });
});
