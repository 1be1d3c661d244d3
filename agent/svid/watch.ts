import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { Logger } from '../../runtime/log.ts';
import { agentDenial } from '../attestation/agent-denial.ts';
import type { ServerLink } from '../server-link.ts';

const RETRY = { firstMs: 100, maximumMs: 5000 };
/** How often a server that cannot push is asked whether it has learned to. */
const ASK_AGAIN_MS = 10 * 60 * 1000;

export interface WatchOptions {
  readonly link: ServerLink;
  readonly clock: Clock;
  readonly log: Logger;
  /** The server has told that something may have changed, which it does first when the watch begins. */
  onChange(): void;
  /** Whether changes are told from now on; until then and after that only asking helps. */
  onLive(live: boolean): void;
}

/**
 * Listens for changes at the server, until `signal` aborts. A spire-server offers no such call.
 * @throws `RpcError` of which `agentDenial` tells that the server will have no more of this agent
 */
export async function watchServer(options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { clock, log, onLive } = options;
  const backoff = new Backoff(RETRY);
  while (!signal.aborted) {
    try {
      await watchOnce(options, signal, () => backoff.reset());
    } catch (error) {
      if (signal.aborted || agentDenial(error) !== undefined) throw error;
      if (error instanceof RpcError && error.status === 'UNIMPLEMENTED') {
        await clock.wait(ASK_AGAIN_MS, signal);
        continue;
      }
      log.debug({ err: error }, 'the server no longer tells of changes');
    } finally {
      onLive(false);
    }
    await clock.wait(backoff.next(), signal);
  }
}

/** Ends without an error when the link is replaced. */
async function watchOnce(
  { link, onChange, onLive }: WatchOptions,
  signal: AbortSignal,
  onFirst: () => void,
): Promise<void> {
  const { channel, replaced } = await link.stream();
  const stop = new AbortController();
  const abort = () => stop.abort();
  for (const other of [signal, replaced]) other.addEventListener('abort', abort, { once: true });
  if (signal.aborted || replaced.aborted) abort();
  try {
    const changes = channel.client(AgentService).watchEntries({}, { signal: stop.signal });
    for await (const _ of changes) {
      onFirst();
      onLive(true);
      onChange();
    }
  } catch (error) {
    if (!replaced.aborted) throw error;
  } finally {
    for (const other of [signal, replaced]) other.removeEventListener('abort', abort);
  }
}
