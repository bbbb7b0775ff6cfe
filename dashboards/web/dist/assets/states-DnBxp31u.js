//# allFunctionsCalledOnLoad
const s=["up","stale","never_seen"],o={up:"good",stale:"bad",never_seen:"idle"};function r(t){const{memory_total_bytes:e,memory_available_bytes:n}=t;return e&&n!=null?(e-n)/e*100:null}function l(t){const{network_receive_bytes_per_second:e,network_transmit_bytes_per_second:n}=t;return e==null||n==null?null:e+n}export{o as H,s as a,r as m,l as n};
