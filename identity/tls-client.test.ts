import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { withoutEnvironmentChecks } from '../test/fixtures/environment-checks.ts';
import { handMadeCa, handMadeCertificate } from '../test/fixtures/hand-made-certificate.ts';
import { bundleOf, Harness, ids, root, svidOf } from '../test/fixtures/svid-server.ts';
import { authorizeAny, authorizeId } from './authorizer.ts';
import type { Bundle } from './bundle.ts';
import { SpiffeId } from './spiffe-id.ts';
import { svidClientTls, tlsConnectOptions } from './tls.ts';

describe('svidClientTls', () => {
  const connectTo = async (
    harness: Harness,
    options: { wanted?: SpiffeId; bundle?: Bundle; clock?: Clock },
  ): Promise<void> => {
    const socket = tls.connect({
      host: '127.0.0.1',
      port: harness.port,
      ...tlsConnectOptions(
        svidClientTls({
          svid: svidOf(ids.web),
          bundle: options.bundle ?? bundleOf(root),
          authorize: options.wanted === undefined ? authorizeAny() : authorizeId(options.wanted),
          clock: options.clock ?? systemClock,
        }),
      ),
    });
    try {
      await once(socket, 'secureConnect');
    } finally {
      socket.destroy();
    }
  };

  it('takes the server that it wants, whatever name it was reached by', async () => {
    await using harness = await Harness.start();
    await connectTo(harness, { wanted: SpiffeId.parse(ids.server) });
  });

  it('refuses another identity', async () => {
    await using harness = await Harness.start();
    const wanted = SpiffeId.parse('spiffe://example.org/other');
    await assert.rejects(connectTo(harness, { wanted }), {
      code: 'SVID_INVALID',
      message: 'server is spiffe://example.org/server, not the one that is wanted',
    });
  });

  it('refuses a server that does not chain to the bundle', async () => {
    await using harness = await Harness.start();
    await assert.rejects(connectTo(harness, { bundle: bundleOf(handMadeCa()) }));
    await assert.rejects(connectTo(harness, { bundle: bundleOf() }));
  });

  it('refuses a server that OpenSSL takes and SPIFFE does not', async () => {
    await using harness = await Harness.start();
    for (const parts of [{ ca: true }, { uris: ['spiffe://example.com/server'] }]) {
      const leaf = handMadeCertificate({ issuer: root, uris: [ids.server], ...parts });
      harness.svid.set({ ...harness.svid.value, chain: [leaf.der], privateKey: leaf.key });
      await sleep(20);
      await assert.rejects(connectTo(harness, {}), { code: 'SVID_INVALID' });
    }
  });

  it('refuses whom it refuses also where the environment turns checks of certificates off', async () => {
    await using harness = await Harness.start();
    await withoutEnvironmentChecks(async () => {
      await assert.rejects(connectTo(harness, { bundle: bundleOf(handMadeCa()) }));
      const wanted = SpiffeId.parse('spiffe://example.org/other');
      await assert.rejects(connectTo(harness, { wanted }), { code: 'SVID_INVALID' });
    });
  });

  it('judges by its own clock', async () => {
    await using harness = await Harness.start();
    const late = { ...systemClock, now: () => new Date(Date.now() + 86_400_000) };
    await assert.rejects(connectTo(harness, { clock: late }), { code: 'SVID_INVALID' });
  });
});
