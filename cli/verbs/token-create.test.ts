import assert from 'node:assert/strict';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { VerbIo } from '../verb.ts';
import { tokenCreate } from './token-create.ts';

describe('writ token create', () => {
  const runWith = async (flags: Record<string, string | boolean>) => {
    const out: string[] = [];
    const err: string[] = [];
    const asked: unknown[] = [];
    const service = {
      createJoinToken: async (request: unknown) => {
        asked.push(request);
        const expiresAt = timestampFromDate(new Date('2026-01-01T00:10:00Z'));
        return { joinString: 'SECRET', handle: 'jt-7', expiresAt };
      },
    };
    const io = {
      signal: AbortSignal.timeout(1000),
      admin: () => service,
      out: (line: string) => out.push(line),
      err: (line: string) => err.push(line),
    } as unknown as VerbIo;
    await tokenCreate.run(flags, io, []);
    return { out, err, asked };
  };

  it('prints the join string alone on stdout', async () => {
    const { out, err, asked } = await runWith({ ttl: '10m', json: false });
    assert.deepEqual(out, ['SECRET']);
    assert.deepEqual(asked, [{ ttlSeconds: 600, agentId: '' }]);
    assert.ok(!err.join('\n').includes('SECRET'));
  });

  it('prints one JSON document with --json', async () => {
    const { out } = await runWith({ ttl: '1h', json: true });
    const printed = {
      join_string: 'SECRET',
      handle: 'jt-7',
      expires_at: '2026-01-01T00:10:00.000Z',
    };
    assert.deepEqual(JSON.parse(out.join('')), printed);
  });

  for (const bad of ['', '0s', '10', '-1m', '25h', '2d', '10m ']) {
    it(`refuses --ttl ${JSON.stringify(bad)}`, async () => {
      await assert.rejects(runWith({ ttl: bad }), { code: 'USAGE' });
    });
  }
});
