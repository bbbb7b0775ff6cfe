import{A as r,x as u}from"./request-CXoLxZLS.js";function a(e,s){return r(u,e)}export{a as u};
