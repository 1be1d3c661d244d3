import {
  type Health,
  HealthCheckResponse_ServingStatus as Status,
} from '../../proto/gen/grpc/health/v1/health_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { Caller } from './callers.ts';

/** The common gRPC health protocol; the only service it knows is `''`, the whole server. */
export function healthService({
  serving,
}: {
  readonly serving: WatchedSource<boolean>;
}): Implementation<typeof Health, Caller> {
  const now = () => ({ status: statusOf(serving.value) });
  return {
    async check({ service }) {
      if (service !== '') throw new Fault('NOT_FOUND', 'unknown service');
      return now();
    },

    async list() {
      return { statuses: { '': now() } };
    },

    async *watch({ service }, { signal }) {
      if (service === '') {
        for await (const value of serving.values(signal)) yield { status: statusOf(value) };
      } else {
        yield { status: Status.SERVICE_UNKNOWN };
        await aborted(signal);
      }
    },
  };
}

function statusOf(serving: boolean): Status {
  return serving ? Status.SERVING : Status.NOT_SERVING;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
