import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { OpenSessionRequest } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { ResourceSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import {
  AccessWorld,
  AGENT,
  BACKEND,
  documents,
  GATEWAY,
  grantYaml,
} from '../../test/fixtures/access-world.ts';
import {
  hostCertificate,
  SSH_BACKEND,
  SshWorkload,
  sshGrantYaml,
  sshRequest,
} from '../../test/fixtures/ssh-access.ts';
import { SessionOpener } from './open-session.ts';

const ID = 'spiffe://example.org/ci';
const rogue = generateKeyPairSync('ed25519').privateKey;

describe('SessionOpener for SSH', () => {
  let world: AccessWorld;
  let opener: SessionOpener;
  let client: SshWorkload;
  beforeEach(async () => {
    world = await AccessWorld.create();
    opener = new SessionOpener(world);
    await world.addWorkload('ci');
    client = await SshWorkload.issue(world, 'ci');
    await world.apply(documents(SSH_BACKEND, sshGrantYaml('deploys')));
  });

  const open = (request: OpenSessionRequest) => opener.open(GATEWAY, request);

  const refuses = async (request: OpenSessionRequest, cause: string, message?: RegExp) => {
    const refused = { code: 'PERMISSION_DENIED', cause, ...(message && { message }) };
    await assert.rejects(open(request), refused);
    const [event] = (await world.events('session.denied')).slice(-1);
    assert.equal(event?.attributes.cause, cause);
    assert.equal(event?.attributes.login, request.login === '' ? undefined : request.login);
    assert.deepEqual(await world.sessions.list({ openOnly: false, limit: 10 }), []);
    return event;
  };

  it('opens by a certificate and what its holder signed, and keeps the login', async () => {
    const opened = await open(sshRequest(client.proof()));
    assert.equal(opened.spiffeId, ID);
    assert.equal(opened.svidSerial, client.serial);
    assert.equal(opened.agentId, AGENT);
    assert.equal(opened.grant?.rights?.case, 'ssh');
    const row = await world.store.get('select login, svid_serial, grant_name from sessions');
    assert.deepEqual(row, { login: 'deploy', svid_serial: client.serial, grant_name: 'deploys' });
    const [event] = await world.events('session.opened');
    assert.equal(event?.attributes.login, 'deploy');
    assert.equal(event?.svidSerial, client.serial);
  });

  it('ends a session with its certificate at the latest', async () => {
    const { expiresAt } = await open(sshRequest(client.proof()));
    const end = Math.floor((world.clock.now().getTime() + 300_000) / 1000) * 1000;
    assert.equal(timestampDate(expiresAt as never).getTime(), end);
  });

  describe('S2 takes no certificate', () => {
    const certificates: readonly [
      what: string,
      message: RegExp,
      change: (at: Date) => Parameters<typeof SshWorkload.issue>[2],
    ][] = [
      ['of an authority that is not ours', /not trusted/, () => ({ authority: rogue })],
      ['of a host', /of a host where/, () => ({ type: 'host' })],
      ['for two principals', /only principal/, () => ({ principals: [ID, 'root'] })],
      ['for another principal', /only principal/, () => ({ principals: ['root'] })],
      [
        'of another trust domain',
        /another trust domain/,
        () => ({ keyId: 'spiffe://example.com/ci', principals: ['spiffe://example.com/ci'] }),
      ],
      ['of a gateway', /not of a workload/, () => ({ keyId: GATEWAY, principals: [GATEWAY] })],
      ['that has expired', /expired/, (now) => ({ validBefore: now })],
      [
        'that is not valid yet',
        /not valid yet/,
        (now) => ({ validAfter: new Date(now.getTime() + 2000) }),
      ],
      [
        'with a critical option that we do not know',
        /critical option/,
        () => ({ criticalOptions: { 'force-command': 'x' } }),
      ],
      [
        'for another source address',
        /source address/,
        () => ({ criticalOptions: { 'source-address': '192.0.2.2' } }),
      ],
    ];
    for (const [what, message, change] of certificates) {
      it(`S2 ${what}`, async () => {
        const other = await SshWorkload.issue(world, 'ci', change(world.clock.now()));
        const event = await refuses(sshRequest(other.proof()), 'proof.invalid', message);
        assert.equal(event?.spiffeId, '');
      });
    }

    it('S2 that was changed', async () => {
      const proof = client.proof();
      const certificate = Buffer.from(proof.certificate);
      certificate[certificate.indexOf('/ci') + 1] = 'x'.charCodeAt(0);
      await refuses(sshRequest({ ...proof, certificate }), 'proof.invalid', /does not verify/);
    });

    it('S2 that is none', async () => {
      for (const certificate of [Buffer.alloc(0), Buffer.alloc(70_000), Buffer.from('x')])
        await refuses(sshRequest({ ...client.proof(), certificate }), 'proof.invalid');
    });
  });

  it('takes a certificate for the address that the client comes from', async () => {
    for (const [address, from] of [
      ['192.0.2.0/24', '192.0.2.1:5000'],
      ['2001:db8::/32', '[2001:db8::7]:5000'],
    ] as const) {
      const criticalOptions = { 'source-address': address };
      const bound = await SshWorkload.issue(world, 'ci', { criticalOptions });
      await open(sshRequest(bound.proof(), { clientAddress: from }));
    }
  });

  describe('S2 takes no signature', () => {
    it('S2 by another key than the certificate has', async () => {
      await refuses(sshRequest(client.proof({ key: rogue })), 'proof.invalid', /does not verify/);
    });

    it('S2 over something else', async () => {
      const { signature } = client.proof();
      await refuses(sshRequest({ ...client.proof(), signature }), 'proof.invalid');
    });

    it('S2 of another certificate', async () => {
      const { certificate } = await SshWorkload.issue(world, 'ci');
      await refuses(sshRequest({ ...client.proof(), certificate }), 'proof.invalid');
    });

    it('S2 that is none, or over what is no login', async () => {
      const proof = client.proof();
      await refuses(sshRequest({ ...proof, signature: Buffer.alloc(0) }), 'proof.invalid');
      await refuses(sshRequest({ ...proof, signedData: Buffer.alloc(0) }), 'proof.invalid');
      const longer = Buffer.concat([proof.signedData, Buffer.of(0)]);
      await refuses(sshRequest({ ...proof, signedData: longer }), 'proof.invalid');
    });

    const users: readonly [user: string, ask: Parameters<typeof sshRequest>[1]][] = [
      ['admin', {}],
      ['deploy', { login: 'admin' }],
      ['deploy', { grant: 'deploys' }],
      ['deploy+deploys', {}],
      ['deploy+web-2', {}],
      ['deploy+web-2+deploys', { grant: 'deploys' }],
      ['deploy+web-1+other', { grant: 'deploys' }],
      ['deploy+web-1', { grant: 'deploys' }],
      ['deploy+web-1+deploys+', { grant: 'deploys' }],
      ['+web-1', {}],
    ];
    for (const [user, ask] of users) {
      it(`S2 of a login as ${user} for ${JSON.stringify(ask)}`, async () => {
        await refuses(sshRequest(client.proof({ user }), ask), 'proof.other');
      });
    }

    it('S2 of a login to another backend, if the client signed which it saw', async () => {
      const hostKey = hostCertificate(world, 'web-2');
      await refuses(sshRequest(client.proof({ hostKey })), 'proof.invalid', /principal/);
      const false1 = hostCertificate(world, 'web-1', rogue);
      await refuses(sshRequest(client.proof({ hostKey: false1 })), 'proof.invalid', /not trusted/);
    });
  });

  const logins: readonly [user: string, grant: string][] = [
    ['deploy', ''],
    ['deploy+web-1', ''],
    ['deploy+deploys', 'deploys'],
    ['deploy+web-1+deploys', 'deploys'],
  ];
  for (const [user, grant] of logins) {
    it(`opens for a login as ${user}`, async () => {
      await open(sshRequest(client.proof({ user }), { grant }));
    });
  }

  it('opens for a client that signed the host certificate of the backend, or the gateway', async () => {
    const hostKey = hostCertificate(world, 'web-1');
    await open(sshRequest(client.proof({ hostKey })));
    const gateway = hostCertificate(world, 'gateway.internal');
    await open(sshRequest(client.proof({ hostKey: gateway, user: 'deploy+web-1' })));
  });

  describe('S2 mixes no kinds of proof', () => {
    it('S2 two at once', async () => {
      const svid = await world.issue('ci');
      const request = sshRequest(client.proof(), { clientChain: [...svid.chain] });
      await refuses(request, 'proof.several');
    });

    it('S2 an X509-SVID for an SSH backend', async () => {
      const svid = await world.issue('ci');
      const { sshProof: _, ...request } = sshRequest({}, { clientChain: [...svid.chain] });
      await refuses(request, 'proof.unfit');
      await assert.rejects(open({ ...request, login: '' }), { cause: 'proof.unfit' });
    });

    it('S2 an SSH certificate for a database', async () => {
      await world.apply(documents(BACKEND, grantYaml('reads', { identity: 'ci' })));
      const request = sshRequest(client.proof(), { backend: 'shop' });
      await refuses(request, 'login.not_granted', /but none on this backend$/);
    });

    it('S2 a serial of another kind than the proof', async () => {
      await world.run(`update ledger set kind = 'x509' where serial = '${client.serial}'`);
      const event = await refuses(sshRequest(client.proof()), 'serial.unknown', /SSH certificate/);
      assert.equal(event?.svidSerial, client.serial);
      await world.run(`update ledger set kind = 'ssh-gateway' where serial = '${client.serial}'`);
      await refuses(sshRequest(client.proof()), 'serial.unknown');
    });
  });

  describe('S2 holds the ledger and the registry against a certificate that verifies', () => {
    it('S2 opens nothing for a serial that was revoked', async () => {
      const subject = { kind: 'serial', value: client.serial } as const;
      await world.store.transaction((tx) =>
        world.revocations.revoke(tx, { subject, cause: 'test', reason: 'stolen' }),
      );
      await refuses(
        sshRequest(client.proof()),
        'serial.revoked',
        /this SSH certificate was revoked/,
      );
    });

    const changes: readonly [string, string, string][] = [
      ['a serial that is not there', 'delete from ledger', 'serial.unknown'],
      ["another's serial", `update ledger set spiffe_id = 'x'`, 'serial.unknown'],
      ['a banned agent', 'update agents set banned = 1', 'agent.banned'],
      ['an entry that was deleted', 'delete from entries', 'entry.gone'],
      ['a suspended identity', `update identities set status = 'suspended'`, 'identity.inactive'],
    ];
    for (const [what, sql, cause] of changes) {
      it(`S2 opens nothing for ${what}`, async () => {
        await world.run(sql);
        await refuses(sshRequest(client.proof()), cause);
      });
    }
  });

  describe('decides the login', () => {
    it('S2 refuses one that is not granted, with those that are', async () => {
      const request = sshRequest(client.proof({ user: 'admin' }), { login: 'admin' });
      await refuses(request, 'login.not_granted', /^that login is not granted, but deploy$/);
    });

    it("refuses one by the name of an object's own", async () => {
      const login = 'constructor';
      await refuses(sshRequest(client.proof({ user: login }), { login }), 'login.not_granted');
    });

    it('refuses a session without one', async () => {
      await refuses(sshRequest(client.proof({ user: '+web-1' }), { login: '' }), 'login.missing');
    });

    it('S2 refuses one that is gone from the backend', async () => {
      const type = { case: 'ssh', value: { host: 'h', logins: { admin: 'root' } } } as const;
      await put({ case: 'backend', value: { name: 'web-1', type } });
      await refuses(sshRequest(client.proof()), 'login.gone');
    });

    it('S2 refuses a backend that is gone, and a grant that does not fit one of its name', async () => {
      await world.run(`delete from resources where kind = 'Backend'`);
      await refuses(sshRequest(client.proof()), 'backend.unknown');
      const type = { case: 'postgres', value: {} } as const;
      await put({ case: 'backend', value: { name: 'web-1', type } });
      await refuses(sshRequest(client.proof()), 'grant.unfit');
    });

    const put = (body: NonNullable<MessageInitShape<typeof ResourceSchema>['body']>) =>
      world.store.transaction((tx) => {
        const resource = create(ResourceSchema, { name: 'web-1', generation: 9n, body });
        return world.resources.put(tx, resource, world.clock.now());
      });
  });

  describe('S13 several grants on one backend', () => {
    const SEVERAL = /name one of also, deploys after the user name and a \+$/;

    it('S13 refuses when several give the login and none is named, with the list', async () => {
      await world.apply(
        documents(sshGrantYaml('also'), sshGrantYaml('roots', { ssh: 'logins: [admin]' })),
      );
      await refuses(sshRequest(client.proof()), 'grant.several', SEVERAL);
    });

    it('S13 opens the one that is named', async () => {
      await world.apply(sshGrantYaml('also'));
      const request = sshRequest(client.proof({ user: 'deploy+also' }), { grant: 'also' });
      assert.equal((await open(request)).grant?.name, 'also');
    });

    it('S13 opens the one that gives the login, and never by the rights of another', async () => {
      await world.apply(
        sshGrantYaml('roots', { ssh: 'logins: [admin], channels: { sftp: true }' }),
      );
      const request = sshRequest(client.proof({ user: 'admin' }), { login: 'admin' });
      const { grant } = await open(request);
      assert.equal(grant?.name, 'roots');
      assert.ok(grant?.rights?.case === 'ssh' && !grant.rights.value?.shell);
      const named = sshRequest(client.proof({ user: 'admin+deploys' }), {
        login: 'admin',
        grant: 'deploys',
      });
      await assert.rejects(open(named), { cause: 'login.not_granted' });
    });

    it('S13 counts no grant that has expired', async () => {
      const expires = new Date(world.clock.now().getTime() + 100).toISOString();
      await world.apply(sshGrantYaml('also', { expires }));
      await world.clock.advance(150);
      assert.equal((await open(sshRequest(client.proof()))).grant?.name, 'deploys');
      const named = sshRequest(client.proof({ user: 'deploy+also' }), { grant: 'also' });
      await assert.rejects(open(named), { cause: 'grant.expired' });
    });
  });
});
