import { systemClock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import type { Logger } from '../runtime/log.ts';
import { X509Source } from '../sdk/x509-source.ts';
import { type GatewayConfig, gatewayIdOf } from './config.ts';

/**
 * Waits for the gateway's own SVID; undefined if the process is to stop before there is one.
 * @throws Fault UNAVAILABLE if the agent will never give it
 */
export async function connectSource(
  config: GatewayConfig,
  { signal, log }: { readonly signal: AbortSignal; readonly log: Logger },
): Promise<X509Source | undefined> {
  const spiffeId = gatewayIdOf(config);
  try {
    return await X509Source.connect({
      endpoint: `unix://${config.workload_api}`,
      spiffeId,
      signal,
      log,
    });
  } catch (error) {
    if (signal.aborted) return undefined;
    const message = `the agent gives this process no X509-SVID of ${spiffeId}`;
    throw new Fault('UNAVAILABLE', message, { cause: error });
  }
}

/** Why the gateway cannot prove itself; undefined if it can. */
export function svidUnreadiness(source: X509Source): string | undefined {
  return source.svid.value.notAfter > systemClock.now()
    ? undefined
    : "the gateway's X509-SVID has expired";
}
