// The browser has heard of the run that is to change the page: said once.

let said;

export default function ({ data: { turn }, setTriggerValue }) {
  if (turn === said) return;
  said = turn;
  setTriggerValue("heard", turn);
}
