import{A as r,x as u}from"./request-DTzYt3YI.js";function a(e,s){return r(u,e)}export{a as u};
