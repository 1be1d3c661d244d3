import { timestampDate } from '@bufbuild/protobuf/wkt';
import {
  Enforce,
  type PostgresBackend,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import { ControlConnections } from '../upstream/control.ts';
import { Detectors, type OnFound } from './detectors/detectors.ts';
import type { Classification } from './masked-relations.ts';
import { ResultGuard } from './result-guard.ts';
import { SharedAccount } from './shared-account.ts';
import { WireMasking } from './wire-masking.ts';

export interface EnforcementOptions {
  readonly classification: Classification;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onFound: OnFound;
}

/** What looks at results of a backend whose database masks. @returns undefined if nothing is looked for */
export function detectorGuard(backend: PostgresBackend, onFound: OnFound): ResultGuard | undefined {
  const detectors = Detectors.of(backend, onFound);
  return detectors === undefined ? undefined : new ResultGuard({ rules: undefined, detectors });
}

/** Where the gateway alone keeps sessions to their rights: all that it needs for one backend. */
export class GatewayEnforcement implements AsyncDisposable {
  readonly masking: WireMasking;
  readonly account: SharedAccount;
  readonly guard: ResultGuard;
  readonly #control: ControlConnections;

  /** @returns undefined for a backend whose database enforces */
  static of(backend: PostgresBackend, options: EnforcementOptions): GatewayEnforcement | undefined {
    return backend.enforce === Enforce.GATEWAY
      ? new GatewayEnforcement(backend, options)
      : undefined;
  }

  private constructor(backend: PostgresBackend, options: EnforcementOptions) {
    const { clock, log, classification, onFound } = options;
    const ends = backend.exception?.expiresAt;
    // Without an exception there is nothing to allow it.
    const expiresAt = ends === undefined ? new Date(0) : timestampDate(ends);
    const control = new ControlConnections(backend);
    const masking = new WireMasking({
      query: (text, values) => control.query(text, values),
      ...{ classification, expiresAt, clock, log },
    });
    this.#control = control;
    this.masking = masking;
    this.account = new SharedAccount({
      address: backend,
      ...{ expiresAt, clock, ready: () => masking.ready() },
    });
    const detectors = Detectors.of(backend, onFound);
    this.guard = new ResultGuard({ rules: masking.rules, detectors });
  }

  start(): void {
    this.masking.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.masking[Symbol.asyncDispose]();
    await this.#control[Symbol.asyncDispose]();
  }
}
