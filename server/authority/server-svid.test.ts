import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifySvid } from '../../identity/verify.ts';
import { isIssuedBy, parseCertificate } from '../../identity/x509/certificate.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { AuthorityWorld, idOf } from '../../test/fixtures/authority-world.ts';
import { OPERATOR } from '../../test/fixtures/registry-world.ts';
import { temporaryDir } from '../../test/fixtures/running-server.ts';
import type { Authorities } from './authorities.ts';
import { rowsOfKind } from './authority-state.ts';
import { KeptSvid } from './kept-svid.ts';
import { ServerSvid } from './server-svid.ts';

describe('ServerSvid', () => {
  let world: AuthorityWorld;
  beforeEach(async () => {
    world = await AuthorityWorld.create();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const open = (authorities: Authorities, kept?: KeptSvid) => {
    const { store, clock, log } = world;
    const authority = world.signing(authorities);
    return ServerSvid.open({ store, authorities, authority, clock, log, ttlSeconds: 3600, kept });
  };
  const signerOf = ({ chain }: X509Svid, authorities: Authorities) => {
    const leaf = parseCertificate(chain[0] ?? new Uint8Array());
    return rowsOfKind(authorities.state.value, 'x509').find(
      ({ certificate }) => certificate && isIssuedBy(leaf, parseCertificate(certificate)),
    )?.id;
  };
  const becomes = async (server: ServerSvid, isWanted: (svid: X509Svid) => boolean) => {
    const signal = AbortSignal.timeout(20_000);
    for await (const svid of server.current.values(signal)) if (isWanted(svid)) return;
    assert.fail('the SVID has not changed');
  };
  const change = async (authorities: Authorities) => {
    const old = idOf(authorities, 'x509', 'active');
    const { id } = await world.prepare(authorities, 'x509');
    await authorities.activate({ kind: 'x509', id }, OPERATOR);
    return { old, id };
  };

  it('is renewed at half of its life', async () => {
    const authorities = await world.open();
    await using server = await open(authorities);
    const { serial } = server.current.value;
    world.clock.advance(1_800_000);
    await becomes(server, (svid) => svid.serial !== serial);
  });

  it('is of the new authority soon after its own was tainted, when agents know that', async () => {
    const authorities = await world.open();
    await using server = await open(authorities);
    const { old, id } = await change(authorities);
    await authorities.taint({ kind: 'x509', id: old }, OPERATOR);
    assert.equal(signerOf(server.current.value, authorities), old);
    world.clock.advance(10_000);
    await becomes(server, (svid) => signerOf(svid, authorities) === id);
  });

  it('is of the new authority at once when its own was revoked', async () => {
    const authorities = await world.open();
    await using server = await open(authorities);
    const { old, id } = await change(authorities);
    await authorities.taint({ kind: 'x509', id: old }, OPERATOR);
    await authorities.revoke({ kind: 'x509', id: old }, OPERATOR);
    await becomes(server, (svid) => signerOf(svid, authorities) === id);
  });

  describe('kept over a restart', () => {
    let dir: ReturnType<typeof temporaryDir>;
    let kept: KeptSvid;
    let file: string;
    beforeEach(() => {
      dir = temporaryDir();
      file = join(dir.path, 'svid.json');
      kept = new KeptSvid(file);
    });
    afterEach(() => dir[Symbol.dispose]());

    const shown = async (authorities: Authorities) => {
      await using server = await open(authorities, kept);
      return server.current.value;
    };

    it('is shown on where all keys are lost, for agents that know the old authority alone', async () => {
      let authorities = await world.open();
      const known = authorities.state.value.bundle;
      const first = await shown(authorities);
      assert.equal(statSync(file).mode & 0o777, 0o600);
      world.lose('x509');
      authorities = await world.open();
      const second = await shown(authorities);
      assert.equal(second.serial, first.serial);
      verifySvid(second.chain, () => known, world.clock.now());
      world.clock.advance(3_240_000);
      const third = await shown(authorities);
      assert.equal(signerOf(third, authorities), idOf(authorities, 'x509', 'active'));
    });

    it('is issued anew at a start of the same authority', async () => {
      const authorities = await world.open();
      const first = await shown(authorities);
      assert.notEqual((await shown(await world.open())).serial, first.serial);
    });

    for (const [what, text, mode] of [
      ['damaged', 'junk', 0o600],
      ['of another form', '{"key":1}', 0o600],
      ['readable by others', undefined, 0o644],
    ] as const)
      it(`is issued anew if the file is ${what}`, async () => {
        const first = await shown(await world.open());
        world.lose('x509');
        const authorities = await world.open();
        writeFileSync(file, text ?? readFileSync(file));
        chmodSync(file, mode);
        assert.notEqual((await shown(authorities)).serial, first.serial);
      });
  });
});
