import { isGatewaysSetting, refusePinned } from '../client/settings.ts';
import { FREE, type Verdict } from './statement-verdict.ts';

/**
 * The verdict on a change of one setting: what is pinned is refused here, all else is the backend's to
 * say (threats P11).
 * @param value undefined if the statement does not tell it
 */
export function judgeSetting(setting: string, value: string | undefined): Verdict {
  const name = setting.toLowerCase();
  const verdict = { ...FREE, class: 'session' } as const;
  return isGatewaysSetting(name)
    ? { ...verdict, forbidden: refusePinned(name, value) }
    : { ...verdict, sets: [{ name, value }] };
}
