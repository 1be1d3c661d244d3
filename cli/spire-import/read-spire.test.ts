import assert from 'node:assert/strict';
import type { RpcChannel } from '../../runtime/grpc-client.ts';
import { readSpire } from './read-spire.ts';

const SIGNAL = new AbortController().signal;

describe('readSpire', () => {
  /** A server whose lists of entries have these tokens for their next pages. */
  const serverOf = (next: (token: string) => string) => {
    const none = { bundles: [], federationRelationships: [], agents: [], nextPageToken: '' };
    const client = {
      getBundle: async () => ({}),
      listFederatedBundles: async () => none,
      listFederationRelationships: async () => none,
      listAgents: async () => none,
      listEntries: async ({ pageToken }: { pageToken: string }) => ({
        entries: [{ id: pageToken }],
        nextPageToken: next(pageToken),
      }),
    };
    return { client: () => client } as unknown as RpcChannel;
  };

  it('reads one page after the other', async () => {
    const channel = serverOf((token) => ['b', 'c'][['', 'b'].indexOf(token)] ?? '');
    const { entries } = await readSpire(channel, SIGNAL);
    assert.deepEqual(
      entries.map(({ id }) => id),
      ['', 'b', 'c'],
    );
  });

  it('ends with a server that does not get on', async () => {
    await assert.rejects(
      readSpire(
        serverOf(() => 'b'),
        SIGNAL,
      ),
      { code: 'PROTOCOL_VIOLATION' },
    );
  });
});
